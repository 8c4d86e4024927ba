//! The shipped scenarios, as text. Does not read them.

macro_rules! scenarios {
    ($($name:literal),* $(,)?) => {
        /// Names and texts, in alphabetical order.
        pub(super) const ALL: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../../../scenarios/", $name, ".toml")))),*];
    };
}

scenarios![
    "burst",
    "comes-back",
    "corrupt",
    "flap",
    "loss-10",
    "loss-2",
    "loss-30",
    "misleading-ping",
    "one-dead",
    "p0",
    "p1-interop",
    "p2-long",
    "p3-dsl",
    "seed",
    "slow-middle",
];

pub(super) fn text(name: &str) -> Option<&'static str> {
    ALL.iter().find(|(other, _)| *other == name).map(|(_, text)| *text)
}
