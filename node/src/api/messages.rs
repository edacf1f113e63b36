//! The shapes of messages to programs: JSON has no bytes, so a body is text, or hexadecimal digits where it is none.

use dms_messages::{ContentError, Did, MAX_MESSAGE_LENGTH, MessageContent, Millis};
use serde::{Deserialize, Serialize};

use crate::row_lines::hex;

/// What text is called if nobody says.
pub const TEXT_TYPE: &str = "text/plain";

/// Why a question holds no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NewMessageError {
    /// It breaks a rule of messages.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// The digits are none, or not two for each byte.
    #[error("`hex` is not hexadecimal digits, two for each byte")]
    Hex,
    /// There are two bodies.
    #[error("a message has `text` or `hex`, not both")]
    Both,
}

/// A message for a program.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewMessage {
    /// What its bytes are; [`TEXT_TYPE`] if absent.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// The body, if it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The body in hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hex: Option<String>,
    /// How long to wait for the program's reply, at most 20 s; absent or 0: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Millis>,
    /// Who runs the allocation, if it is neither this node's nor of a job of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Did>,
}

impl NewMessage {
    /// A message of these bytes.
    pub fn new(content_type: impl Into<String>, body: Vec<u8>) -> Self {
        let (text, digits) = parts(body);
        Self { content_type: Some(content_type.into()), text, hex: digits, ..Self::default() }
    }

    /// What is said.
    ///
    /// # Errors
    /// [`NewMessageError`].
    pub fn content(&self) -> Result<MessageContent, NewMessageError> {
        let body = match (&self.text, &self.hex) {
            (Some(_), Some(_)) => return Err(NewMessageError::Both),
            (Some(text), None) => text.as_bytes().to_vec(),
            (None, Some(digits)) => from_hex(digits)?,
            (None, None) => Vec::new(),
        };
        let content_type = self.content_type.as_deref().unwrap_or(TEXT_TYPE);
        Ok(MessageContent::new(content_type, body)?)
    }
}

/// What a program said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageView {
    /// What its bytes are.
    #[serde(rename = "type")]
    pub content_type: String,
    /// The body, if it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The body in hexadecimal digits, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hex: Option<String>,
}

impl From<MessageContent> for MessageView {
    fn from(content: MessageContent) -> Self {
        let (text, hex) = parts(content.body().to_vec());
        Self { content_type: content.content_type().to_owned(), text, hex }
    }
}

impl MessageView {
    /// The body.
    ///
    /// # Errors
    /// The digits are none.
    pub fn body(&self) -> Result<Vec<u8>, NewMessageError> {
        match (&self.text, &self.hex) {
            (Some(text), _) => Ok(text.as_bytes().to_vec()),
            (None, Some(digits)) => from_hex(digits),
            (None, None) => Ok(Vec::new()),
        }
    }
}

/// A message was brought to its program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageSent {
    /// What the program said to it; null if nobody waited for it, or the program said nothing.
    pub reply: Option<MessageView>,
}

fn parts(body: Vec<u8>) -> (Option<String>, Option<String>) {
    match String::from_utf8(body) {
        Ok(text) => (Some(text), None),
        Err(error) => (None, Some(hex(error.as_bytes()))),
    }
}

fn from_hex(digits: &str) -> Result<Vec<u8>, NewMessageError> {
    if digits.len() > 2 * MAX_MESSAGE_LENGTH {
        return Err(ContentError::TooLarge { length: digits.len() / 2 }.into());
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| Some((digit(*high)? << 4) | digit(*low)?));
    match bytes.collect() {
        Some(bytes) if rest.is_empty() => Ok(bytes),
        _ => Err(NewMessageError::Hex),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_goes_as_text_and_anything_else_as_digits_and_both_come_back() {
        for (body, is_text) in [(&b""[..], true), ("ä\n\0".as_bytes(), true), (&[0xff, 0x00, 0x7f], false)] {
            let message = NewMessage::new("a", body.to_vec());
            assert_eq!((message.text.is_some(), message.hex.is_some()), (is_text, !is_text));
            let json = serde_json::to_string(&message).unwrap();
            let content = serde_json::from_str::<NewMessage>(&json).unwrap().content().unwrap();
            assert_eq!((content.content_type(), content.body()), ("a", body));
            assert_eq!(MessageView::from(content).body().unwrap(), body);
        }
        let empty: NewMessage = serde_json::from_str("{}").unwrap();
        assert_eq!(empty.content().unwrap(), MessageContent::new(TEXT_TYPE, "").unwrap());
    }

    #[test]
    fn what_is_no_message_is_refused_by_name() {
        let hex = |digits: &str| {
            NewMessage { hex: Some(digits.to_owned()), ..NewMessage::default() }.content().unwrap_err()
        };
        for digits in ["0", "0g", "+1", "é", "00 1"] {
            assert_eq!(hex(digits), NewMessageError::Hex, "{digits}");
        }
        let long = "0".repeat(2 * MAX_MESSAGE_LENGTH + 2);
        assert!(matches!(hex(&long), NewMessageError::Content(ContentError::TooLarge { .. })));
        let both =
            NewMessage { text: Some(String::new()), hex: Some(String::new()), ..NewMessage::default() };
        assert_eq!(both.content(), Err(NewMessageError::Both));
        assert!(serde_json::from_str::<NewMessage>(r#"{"body":"x"}"#).is_err());
    }
}
