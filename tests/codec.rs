//! Functions behind bytes: what is read, what is written, and what each mistake says.
#![cfg(feature = "serde")]

mod common;

use common::engine;
use layshaft::codec::{self, Codec, CodecError, Failure, Json, Mistake};
use layshaft::{JobError, WaitError};
use proptest::prelude::*;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Number, Value};
use std::collections::BTreeMap;
use std::error::Error;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    item: String,
    count: u32,
    tags: Vec<String>,
    note: Option<String>,
}

fn refused<T: serde::de::DeserializeOwned + std::fmt::Debug>(bytes: impl AsRef<[u8]>) -> CodecError {
    Json.decode::<T>(bytes.as_ref()).expect_err("these bytes are no such value")
}

fn place(error: &CodecError) -> (usize, usize, usize) {
    let position = error.position().expect("a place in the input");
    (position.byte, position.line, position.column)
}

#[test]
fn a_function_is_called_with_bytes() {
    let engine = engine(1);
    let first = engine.function("first", |order: Order| order.tags.into_iter().next()).unwrap();
    let bytes = codec::call(&first, &Json, br#" {"item":"tea","count":2,"tags":["hot","green"]} "#).unwrap();
    assert_eq!(bytes, br#""hot""#);
    let nothing = engine.function("nothing", |()| ()).unwrap();
    assert_eq!(codec::call(&nothing, &Json, b"null").unwrap(), b"null");
}

#[test]
fn a_bad_argument_names_the_function_and_starts_nothing() {
    let engine = engine(1);
    let double = engine.function("double", |x: u32| x * 2).unwrap();
    let error = codec::call(&double, &Json, b"\"two\"").unwrap_err();
    assert_eq!(error.function(), "double");
    let Failure::Argument(wrong) = error.failure() else { panic!("{error:?}") };
    assert_eq!(wrong.mistake(), Mistake::WrongType);
    assert_eq!(
        error.to_string(),
        "function \"double\": its argument cannot be read: invalid type: string \"two\", expected u32 at line 1 column 5, \
         near `\"two\"`; the input is JSON, but not of the type that is expected here"
    );
    assert_eq!(engine.stats().workers[0].jobs, 0);
}

#[test]
fn each_step_of_a_call_can_fail() {
    let engine = engine(1);
    let fail = engine.function("fail", |x: u32| assert!(x > 0, "x is zero")).unwrap();
    let error = codec::call(&fail, &Json, b"0").unwrap_err();
    assert!(error.to_string().starts_with("function \"fail\": the job panicked: x is zero"), "{error}");
    assert!(matches!(error.into_failure(), Failure::Wait(WaitError::Job(JobError::Panicked(_)))));

    let odd = engine.function("odd", |()| BTreeMap::from([(vec![1], 2)])).unwrap();
    let error = codec::call(&odd, &Json, b"null").unwrap_err();
    assert!(error.to_string().starts_with("function \"odd\": its result cannot be written: key must be a string"));
    assert!(matches!(error.into_failure(), Failure::Result(e) if e.mistake() == Mistake::Unwritable));

    assert!(engine.remove("odd"));
    let error = codec::call(&odd, &Json, b"null").unwrap_err();
    assert!(error.to_string().contains("function \"odd\": job not accepted: the function was removed"), "{error}");
    assert!(error.source().is_none(), "it says all itself");
    assert!(matches!(error.failure(), Failure::Submit(e) if e.is_closed()));
}

#[test]
fn empty_input() {
    for input in ["", " ", "\r\n\t "] {
        let error = refused::<Value>(input);
        assert_eq!((error.mistake(), error.message()), (Mistake::Empty, "the input is empty"));
        assert!(error.position().is_none() && error.excerpt().is_none());
    }
}

#[test]
fn bytes_after_the_value() {
    let error = refused::<u32>("12 \n 13");
    assert_eq!((error.mistake(), place(&error)), (Mistake::Trailing, (5, 2, 2)));
    assert_eq!(Json.decode::<u32>(b"12 \n ").unwrap(), 12);
}

#[test]
fn input_that_was_cut() {
    for input in ["{\"a\": [1, 2", "[\n\"ab", "{", "tru", "\"\\u00"] {
        let error = refused::<Value>(input);
        assert_eq!((error.mistake(), place(&error).0), (Mistake::Truncated, input.len()), "{input}: {error}");
    }
}

#[test]
fn nesting_has_a_limit() {
    let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
    Json.decode::<Value>(deep(127).as_bytes()).unwrap();
    for n in [128, 1_000_000] {
        assert_eq!(refused::<Value>(deep(n)).mistake(), Mistake::TooDeep);
        assert_eq!(refused::<Value>("{\"a\":".repeat(n)).mistake(), Mistake::TooDeep);
    }
}

#[test]
fn bytes_that_are_not_text() {
    let error = refused::<Value>(b"{\"name\":\n \"Z\xfcrich\"}");
    assert_eq!((error.mistake(), place(&error)), (Mistake::NotUtf8, (12, 2, 4)));
    assert!(error.to_string().contains("Latin-1") && error.excerpt().unwrap().contains('\u{fffd}'), "{error}");
    assert!(refused::<Value>([0x1f, 0x8b, 8, 0]).likely_cause().contains("gzip"));
    assert!(refused::<Value>([0xff, 0xfe, b'1', 0]).likely_cause().contains("UTF-16"));
}

#[test]
fn slips_are_explained() {
    let slips = [
        ("{'a': 1}", "double ones"),
        ("[1, 2,]", "comma too many"),
        ("[NaN]", "no NaN"),
        ("[True]", "lower case"),
        ("{\"a\": 1} // one", "one value is expected"),
        ("// one", "no comments"),
        ("<html>", "XML or HTML"),
        ("\u{feff}1", "byte order mark"),
        ("hello", "not JSON"),
    ];
    for (input, word) in slips {
        let error = refused::<Value>(input);
        assert!(error.likely_cause().contains(word), "{input}: {error}");
        assert!(error.position().is_some() && error.excerpt().is_some());
    }
}

#[test]
fn places_count_characters_and_excerpts_are_short() {
    let error = refused::<Value>("{\"größe\": x}");
    assert_eq!(place(&error), (12, 1, 11));
    let long = format!("[{}x{}]", "\"ä\",\n".repeat(500), ", \"ö\"".repeat(500));
    let error = refused::<Value>(long);
    assert_eq!(place(&error).1, 501);
    let excerpt = error.excerpt().unwrap();
    assert!(excerpt.starts_with('…') && excerpt.ends_with('…') && excerpt.contains("\\n"), "{excerpt}");
    assert!(!excerpt.contains('\u{fffd}') && excerpt.chars().count() < 60, "{excerpt}");
}

/// A type can say what it likes, also about places that are not there.
#[test]
fn a_type_with_rules_of_its_own() {
    #[derive(Debug)]
    struct Never;
    impl<'de> Deserialize<'de> for Never {
        fn deserialize<D: serde::Deserializer<'de>>(reader: D) -> Result<Never, D::Error> {
            u8::deserialize(reader)?;
            Err(serde::de::Error::custom("no at line 18446744073709551615 column 18446744073709551615"))
        }
    }
    impl Serialize for Never {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("not this one"))
        }
    }
    let error = refused::<Never>("1");
    assert_eq!((error.mistake(), error.message()), (Mistake::WrongType, "no"));
    let error = Json.encode(&Never).unwrap_err();
    assert_eq!((error.mistake(), error.message()), (Mistake::Unwritable, "not this one"));
}

#[test]
fn numbers_are_exact() {
    for x in [0.1, 1e-308, f64::MAX, 5e-324, 123_456_789.123_456_79] {
        assert_eq!(Json.decode::<f64>(&Json.encode(&x).unwrap()).unwrap().to_bits(), f64::to_bits(x));
    }
    for x in [i128::MIN, i128::from(u64::MAX) + 1] {
        assert_eq!(Json.decode::<i128>(&Json.encode(&x).unwrap()).unwrap(), x);
    }
    assert_eq!(Json.encode(&f64::NAN).unwrap(), b"null");
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_filter_map("JSON has no such number", Number::from_f64).prop_map(Value::Number),
        any::<String>().prop_map(Value::String),
    ];
    leaf.prop_recursive(8, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            prop::collection::vec((any::<String>(), inner), 0..6)
                .prop_map(|fields| Value::Object(Map::from_iter(fields))),
        ]
    })
}

/// Bytes that come close to JSON.
fn nearly_json() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        &b"{"[..],
        b"}",
        b"[",
        b"]",
        b":",
        b",",
        b"\"",
        b"\\",
        b"\\ud800",
        b"\\u00e4",
        b"null",
        b"true",
        b"-",
        b"1",
        b"0",
        b".5",
        b"e9",
        b"E+",
        b" ",
        b"\n",
        b"a",
        b"\"item\"",
        b"\"count\"",
        b"\xc3\xa4",
        b"\xf0\x9f\x98\x80",
        b"\xff",
        b"\x00",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// Decodes as several types; an error must be printable, and its place within the input.
fn survives(bytes: &[u8]) -> Result<(), TestCaseError> {
    let errors = [
        Json.decode::<Value>(bytes).err(),
        Json.decode::<Order>(bytes).err(),
        Json.decode::<BTreeMap<String, f32>>(bytes).err(),
        Json.decode::<(u8, char, Option<i128>)>(bytes).err(),
    ];
    for error in errors.into_iter().flatten() {
        prop_assert!(!error.to_string().is_empty() && !error.likely_cause().is_empty());
        prop_assert!(error.mistake() != Mistake::Unwritable);
        if let Some(position) = error.position() {
            prop_assert!(position.byte <= bytes.len() && position.line >= 1 && position.column >= 1);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_value_comes_back(value in values()) {
        let bytes = Json.encode(&value).unwrap();
        prop_assert_eq!(Json.decode::<Value>(&bytes).unwrap(), value);
        prop_assert!(std::str::from_utf8(&bytes).is_ok());
    }

    #[test]
    fn a_typed_value_comes_back(
        item: String,
        count: u32,
        tags in prop::collection::vec(any::<String>(), 0..4),
        note: Option<String>,
    ) {
        let order = Order { item, count, tags, note };
        prop_assert_eq!(Json.decode::<Order>(&Json.encode(&order).unwrap()).unwrap(), order);
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        survives(&bytes)?;
    }

    #[test]
    fn what_is_nearly_json_is_survived(bytes in nearly_json()) {
        survives(&bytes)?;
    }

    /// Every beginning of a value is refused, unless it is one itself.
    #[test]
    fn cut_values_are_survived(value in values(), cut: prop::sample::Index) {
        let bytes = Json.encode(&value).unwrap();
        let start = &bytes[..cut.index(bytes.len())];
        survives(start)?;
        if let Err(error) = Json.decode::<Value>(start) {
            prop_assert!(matches!(error.mistake(), Mistake::Empty | Mistake::Truncated | Mistake::NotUtf8), "{}", error);
        }
    }
}
