//! How machines count: plain numbers with names, and no metrics library.

/// Declares a struct of `u64` counters that can be listed by name.
macro_rules! counters {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$doc:meta])* $field:ident,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct $name {
            $($(#[$doc])* pub $field: u64,)*
        }

        impl $name {
            /// All counters with their names, in the order of their declaration.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$((stringify!($field), self.$field)),*].into_iter()
            }
        }

        /// Counts what another machine of the same kind counted, too.
        impl std::ops::AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                $(self.$field += other.$field;)*
            }
        }

        /// Those that are not zero: `name=n name=n`.
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                for (i, (name, value)) in self.iter().filter(|&(_, n)| n > 0).enumerate() {
                    let space = if i == 0 { "" } else { " " };
                    write!(f, "{space}{name}={value}")?;
                }
                Ok(())
            }
        }
    };
}
pub(crate) use counters;
