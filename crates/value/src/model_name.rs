//! Which texts can be the name of a model.

use crate::error::NameError;
use crate::limits::MAX_MODEL_NAME_BYTES;

/// Checks that `name` can be the name of a model: a plain folder name.
///
/// # Errors
/// The [`NameError`] whose condition the name fails first.
pub fn check_name(name: &str) -> Result<(), NameError> {
    match name {
        "" => Err(NameError::Empty),
        _ if name.len() > MAX_MODEL_NAME_BYTES => Err(NameError::TooLong),
        _ if name.starts_with('.') => Err(NameError::LeadingDot),
        _ if name.contains(['/', '\\']) => Err(NameError::Slash),
        _ if name.contains(char::is_control) => Err(NameError::ControlCharacter),
        _ => Ok(()),
    }
}
