//! Finds a scenario by what a user calls it.

use std::fs;
use std::path::Path;

use mdalp_netem::Scenario;

use crate::lab::LabError;

/// The file at `name`, or the shipped scenario of that name. A name with a `/` or a `.` is a file.
///
/// # Errors
/// If the file cannot be read or is no scenario, or no shipped one has that name.
pub fn load_scenario(name: &str) -> Result<Scenario, LabError> {
    if !name.contains(['/', '.', '\\']) {
        return Scenario::builtin(name).ok_or_else(|| LabError::UnknownScenario {
            name: name.to_owned(),
            known: Scenario::builtin_names().collect::<Vec<_>>().join(", "),
        });
    }
    let failed = |source| LabError::ScenarioFile { name: name.to_owned(), source };
    let text = fs::read_to_string(Path::new(name)).map_err(failed)?;
    Ok(Scenario::parse(&text, name)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_shipped_scenario_and_a_path_is_a_file() {
        assert_eq!(load_scenario("seed").expect("shipped").name, "seed");
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scenarios/p0.toml");
        assert_eq!(load_scenario(path).expect("a file").name, "p0");
        let error = load_scenario("sede").expect_err("no such").to_string();
        assert!(error.contains("seed") && error.contains("loss-10"), "{error}");
        assert!(load_scenario("./sede.toml").is_err());
    }
}
