//! The text of a token: a prefix by which secret scanners recognise it, 178 random bits, and a checksum.
//!
//! `srmt_` is followed by 30 characters of `0-9A-Za-z` and by the CRC-32 of what precedes it in 6 such characters. The
//! checksum tells a mistyped token from one that was revoked, without a look-up.

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use md5::{Digest as _, Md5};

/// What every token begins with.
pub(super) const TOKEN_PREFIX: &str = "srmt_";
/// Random characters of a token.
const RANDOM_TOKEN_CHARS: usize = 30;
/// Characters of the checksum.
const CHECKSUM_CHARS: usize = 6;
/// The characters of tokens and ids, by their value as a digit of the checksum.
const BASE62_DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The system has no random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random numbers")]
pub(crate) struct NoRandom;

/// Random bytes from the system.
///
/// # Errors
/// [`NoRandom`].
pub(super) fn random_bytes<const LEN: usize>() -> Result<[u8; LEN], NoRandom> {
    let mut bytes = [0; LEN];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandom)?;
    Ok(bytes)
}

/// `count` random letters and digits, each as likely as any other.
///
/// # Errors
/// [`NoRandom`].
pub(super) fn random_text(count: usize) -> Result<String, NoRandom> {
    let mut text = String::with_capacity(count);
    while text.len() < count {
        // Of the 64 values of 6 bits, the two without a character are drawn again.
        let drawn = random_bytes::<64>()?.map(|byte| usize::from(byte & 63));
        let chars = drawn.into_iter().filter_map(|index| BASE62_DIGITS.get(index)).map(|byte| char::from(*byte));
        text.extend(chars.take(count - text.len()));
    }
    Ok(text)
}

/// A new token.
///
/// # Errors
/// [`NoRandom`].
pub(super) fn generate() -> Result<String, NoRandom> {
    let text = format!("{TOKEN_PREFIX}{}", random_text(RANDOM_TOKEN_CHARS)?);
    let checksum = checksum(&text);
    Ok(text + &String::from_utf8_lossy(&checksum))
}

/// True for a text that could have been generated: prefix, length and checksum fit.
pub(super) fn is_well_formed(text: &str) -> bool {
    let len = TOKEN_PREFIX.len() + RANDOM_TOKEN_CHARS + CHECKSUM_CHARS;
    if text.len() != len || !text.is_ascii() || !text.starts_with(TOKEN_PREFIX) {
        return false;
    }
    let (body, end) = text.split_at(len - CHECKSUM_CHARS);
    checksum(body) == end.as_bytes()
}

fn checksum(text: &str) -> [u8; CHECKSUM_CHARS] {
    let mut rest = crc32fast::hash(text.as_bytes());
    let mut digits = [b'0'; CHECKSUM_CHARS];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62_DIGITS[(rest % 62) as usize];
        rest /= 62;
    }
    digits
}

/// The MD5 of a code, by which the client names its account.
pub(super) fn account_of(code: &str) -> String {
    Md5::digest(code.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_token_is_well_formed_and_every_changed_one_is_not() {
        let token = generate().expect("random numbers");
        assert!(is_well_formed(&token), "{token}");
        assert_ne!(token, generate().expect("random numbers"));
        for at in 0..token.len() {
            let mut other = token.clone().into_bytes();
            other[at] = if other[at] == b'x' { b'y' } else { b'x' };
            assert!(!is_well_formed(&String::from_utf8(other).expect("text")), "changed at {at}");
        }
        for text in ["", "srmt_", &token[1..], &format!("{token}0"), "srmt_äääääääääääääääääääääääääääääääääääää"]
        {
            assert!(!is_well_formed(text), "{text}");
        }
    }
}
