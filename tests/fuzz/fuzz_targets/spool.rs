//! Decodes arbitrary bytes as a segment and as a journal. A line counts only with its right checksum,
//! and a changed line never counts.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tilt_honeycomb::spool::checksum::seal;
use tilt_honeycomb::spool::journal;
use tilt_honeycomb::spool::segment::Line;

fuzz_target!(|bytes: &[u8]| {
    let changed_at = bytes.first().map_or(0, |byte| usize::from(*byte));
    for line in bytes.split(|byte| *byte == b'\n') {
        assert!(Line::decode(line).is_none() || has_right_checksum(line));
        // With the right checksum, the content is looked at.
        let sealed = seal(line.to_vec());
        if let Some(decoded) = Line::decode(&sealed) {
            let encoded = decoded.encode();
            let again = Line::decode(encoded.strip_suffix(b"\n").expect("a line break"));
            assert_eq!(again.expect("what was written reads back").event.get(), decoded.event.get());
            let mut changed = sealed.clone();
            changed[changed_at % sealed.len()] ^= 1 << (changed_at % 8);
            assert!(Line::decode(&changed).is_none(), "a changed line");
        }
    }
    for settlement in journal::decode(bytes) {
        assert_eq!(journal::decode(&settlement.encode()), [settlement]);
    }
    let lines = bytes.split(|byte| *byte == b'\n');
    let sealed: Vec<_> = lines.map(|line| seal(line.to_vec())).collect();
    for settlement in journal::decode(&sealed.join(&b'\n')) {
        assert!(settlement.settled.is_valid());
        assert_eq!(journal::decode(&settlement.encode()), [settlement]);
    }
    assert!(journal::used(bytes) <= bytes.len());
});

/// Computes the checksum in another way than the program.
fn has_right_checksum(line: &[u8]) -> bool {
    const NAME: &[u8] = b",\"crc32\":\"";
    let Some(at) = line.windows(NAME.len()).rposition(|window| window == NAME) else {
        return false;
    };
    let expected = [NAME, format!("{:08x}", crc32(&line[..at])).as_bytes(), b"\"}"].concat();
    line[at..] == expected[..]
}

/// The CRC-32 of IEEE 802.3, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            if sum & 1 == 1 { (sum >> 1) ^ 0xedb8_8320 } else { sum >> 1 }
        })
    })
}
