//! Judges an arbitrary HTTP response, such as one of a broken server or proxy. The first two bytes
//! are the status, the third is the length of the headers.

#![no_main]

use std::time::UNIX_EPOCH;

use libfuzzer_sys::fuzz_target;
use tilt_honeycomb::honeycomb::response::{Response, BatchResult, judge};

fuzz_target!(|bytes: &[u8]| {
    let [a, b, length, rest @ ..] = bytes else { return };
    let (header, body) = rest.split_at(usize::from(*length).min(rest.len()));
    let header = String::from_utf8_lossy(header).into_owned();
    let answer = Response {
        status: u16::from_be_bytes([*a, *b]) % 700,
        retry_after: Some(header.clone()),
        date: Some(header.clone()),
        location: Some(header),
        body: body.to_vec(),
    };
    let result = judge(&answer, UNIX_EPOCH);
    // Only a response with a 2xx can settle events.
    let has_statuses = matches!(result, BatchResult::PerEvent(_));
    assert!(!has_statuses || (200..300).contains(&answer.status));
});
