//! JSON objects that end with their own checksum, `{...,"crc32":"0a1b2c3d"}`. Pure.
//!
//! Without a checksum, one flipped bit could leave valid JSON with another meaning, such as another
//! build or a later version.

/// The text between the fields of an object and the digits of its checksum.
const NAME: &[u8] = b",\"crc32\":\"";
const DIGITS: usize = 8;
const END: &[u8] = b"\"}";

/// Adds the checksum to an encoded JSON object that has at least one field.
pub fn seal(mut object: Vec<u8>) -> Vec<u8> {
    seal_from(&mut object, 0);
    object
}

/// Adds the checksum to the JSON object that starts at `start` and ends with the document.
pub fn seal_from(document: &mut Vec<u8>, start: usize) {
    document.pop();
    let checksum = crc32fast::hash(&document[start..]);
    document.extend_from_slice(NAME);
    document.extend_from_slice(format!("{checksum:08x}").as_bytes());
    document.extend_from_slice(END);
}

/// Whether an object is intact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Integrity {
    Intact,
    Damaged,
    /// It has no checksum.
    Unsealed,
}

/// Compares an encoded object with its checksum.
pub fn verify(object: &[u8]) -> Integrity {
    let Some(sealed) = object.strip_suffix(END) else { return Integrity::Unsealed };
    let Some((rest, digits)) = sealed.split_last_chunk::<DIGITS>() else {
        return Integrity::Unsealed;
    };
    let Some(fields) = rest.strip_suffix(NAME) else { return Integrity::Unsealed };
    let checksum = format!("{:08x}", crc32fast::hash(fields));
    if checksum.as_bytes() == digits { Integrity::Intact } else { Integrity::Damaged }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_bit_is_detected() {
        let sealed = seal(br#"{"kind":"update","seq":17}"#.to_vec());
        assert_eq!(verify(&sealed), Integrity::Intact);
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(verify(&changed), Integrity::Intact, "bit {bit}");
        }
        for end in 0..sealed.len() {
            assert_eq!(verify(&sealed[..end]), Integrity::Unsealed, "{end} bytes");
        }
    }

    #[test]
    fn a_sealed_object_is_json() {
        let sealed = seal(br#"{"seq":17}"#.to_vec());
        let value: serde_json::Value = serde_json::from_slice(&sealed).expect("JSON");
        assert_eq!(value["seq"], 17);
    }
}
