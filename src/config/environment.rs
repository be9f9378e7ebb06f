//! Options from the environment: `BRAIDFS_MEMORY=1GiB` is `--memory 1GiB`, and counts after the command line and before a file.

use super::defaults::VARIABLE_PREFIX;
use super::file::nearest;
use super::fuse_options::{one_option, option_names};
use super::options::Given;
use super::plan_error::PlanError;
use std::ffi::OsString;

/// What these variables give, their names without the prefix. One that is no option is let pass, with a warning where it
/// is much like one: other programs have variables that begin so.
///
/// # Errors
/// The first value that is wrong.
pub fn read(variables: &[(String, OsString)], warnings: &mut Vec<String>) -> Result<Given, PlanError> {
    let mut all = Given::default();
    for (variable, value) in variables {
        let name = variable.to_ascii_lowercase().replace('_', "-");
        let wrong = |why: String| PlanError::Value(format!("{VARIABLE_PREFIX}{variable} in the environment: {why}"));
        let value = value.to_str().ok_or_else(|| wrong("its value is not UTF-8".into()))?;
        match one_option(&name, Some(value)) {
            Some(given) => all = given.map_err(wrong)?.over(all),
            None => {
                if let Some(meant) = nearest(&name, option_names().iter().map(String::as_str)) {
                    let meant = meant.to_ascii_uppercase().replace('-', "_");
                    warnings.push(format!("{VARIABLE_PREFIX}{variable} in the environment is no option; did you mean {VARIABLE_PREFIX}{meant}?"));
                }
            }
        }
    }
    Ok(all)
}
