//! Values of any type that policies attach and find again.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

type Values = HashMap<TypeId, Arc<dyn Any + Send + Sync>>;

/// At most one value of each type. A copy is cheap and independent of its origin.
///
/// There are three scopes: *peer* lasts as long as the TCP connection, *session* until a new `EHLO` under TLS,
/// *transaction* until the message is done, when it moves into [`Message`](crate::Message). None is ever stored.
#[derive(Clone, Default)]
pub struct Extensions {
    values: Option<Arc<Values>>,
}

impl Extensions {
    /// None at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts in a value, in the place of an earlier one of its type.
    pub fn insert<T: Any + Send + Sync>(&mut self, value: T) {
        let values = self.values.get_or_insert_with(Arc::default);
        Arc::make_mut(values).insert(TypeId::of::<T>(), Arc::new(value));
    }

    /// The value of that type.
    pub fn get<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.values.as_ref()?.get(&TypeId::of::<T>())?.downcast_ref()
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.values.as_ref().map_or(0, |values| values.len())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extensions").field("len", &self.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_does_not_see_what_is_inserted_later() {
        let mut first = Extensions::new();
        first.insert(1_u32);
        let mut second = first.clone();
        second.insert(2_u32);
        second.insert("text");
        assert_eq!((first.get::<u32>(), first.get::<&str>(), first.len()), (Some(&1), None, 1));
        assert_eq!((second.get::<u32>(), second.get::<&str>(), second.len()), (Some(&2), Some(&"text"), 2));
    }
}
