//! A server that takes mail for one domain and prints what came: the whole of it.

use smtp_core::{Accepted, Message, Server};

#[tokio::main]
async fn main() -> Result<(), smtp_core::Error> {
    Server::builder("mx.example.org")
        .local_domain("example.org")
        .deliver(|message: Message| async move {
            println!("{} -> {:?}: {} octets", message.reverse_path(), message.recipients(), message.content().len());
            Ok(Accepted::all())
        })
        .listen("127.0.0.1:2525")
        .await?
        .run()
        .await
}
