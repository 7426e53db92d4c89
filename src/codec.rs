//! Functions behind bytes: what a network adapter, or a file of jobs, needs to call a typed function.
//!
//! [`call`] reads the argument from bytes, runs the job and writes its result as bytes:
//!
//! ```
//! use layshaft::{Engine, codec::{self, Json}};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize)]
//! struct Order { item: String, count: u32 }
//! #[derive(Serialize)]
//! struct Bill { text: String, cents: u32 }
//!
//! let engine = Engine::builder().workers(1).start()?;
//! let price = engine.function("price", |order: Order| Bill { text: order.item, cents: order.count * 250 })?;
//!
//! let bill = codec::call(&price, &Json, br#"{"item": "tea", "count": 2}"#)?;
//! assert_eq!(bill, br#"{"text":"tea","cents":500}"#);
//!
//! let error = codec::call(&price, &Json, br#"{"item": "tea", "count": -2}"#).unwrap_err();
//! assert!(error.to_string().contains("invalid value: integer `-2`, expected u32 at line 1 column 27"));
//! # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
//! ```
//!
//! Who must not block decodes, submits and encodes by itself:
//!
//! ```
//! # use layshaft::{Engine, codec::{Codec, Json}};
//! # let engine = Engine::builder().workers(1).start()?;
//! # let double = engine.function("double", |x: u32| x * 2)?;
//! # futures_lite::future::block_on(async {
//! let handle = double.submit(Json.decode(b"21")?)?;
//! assert_eq!(Json.encode(&handle.await?)?, b"42");
//! # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
//! ```

mod error;
mod json;

pub use error::{BytesError, CodecError, Failure, Mistake, Position};
pub use json::Json;

use crate::error::SubmitError;
use crate::function::Function;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How values become bytes, and bytes values.
pub trait Codec {
    /// Writes a value as bytes.
    ///
    /// # Errors
    /// [`CodecError`], always [`Mistake::Unwritable`], when the format cannot express the value or its own
    /// `Serialize` fails.
    fn encode<T: Serialize + ?Sized>(&self, value: &T) -> Result<Vec<u8>, CodecError>;

    /// Reads one value, which the bytes hold from their first to their last.
    ///
    /// # Errors
    /// [`CodecError`] when they hold something else. No bytes make it panic, unless `T`'s own `Deserialize` does.
    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, CodecError>;
}

/// Calls a function with bytes, waits, and returns its result as bytes.
///
/// Decoding and encoding happen on the calling thread. A body that returns a `Result` has succeeded either way: what it
/// returned is encoded.
///
/// # Errors
/// [`BytesError`], which names the function and says which step failed.
pub fn call<A, R>(function: &Function<A, R>, codec: &impl Codec, bytes: &[u8]) -> Result<Vec<u8>, BytesError<R>>
where
    A: DeserializeOwned + Send + 'static,
    R: Serialize + Send + 'static,
{
    run(function, codec, bytes).map_err(|failure| BytesError::new(function.name(), failure))
}

fn run<A, R>(function: &Function<A, R>, codec: &impl Codec, bytes: &[u8]) -> Result<Vec<u8>, Failure<R>>
where
    A: DeserializeOwned + Send + 'static,
    R: Serialize + Send + 'static,
{
    let arg = codec.decode(bytes).map_err(Failure::Argument)?;
    let handle = function.submit(arg).map_err(|refused| Failure::Submit(without_arg(refused)))?;
    let result = handle.wait().map_err(Failure::Wait)?;
    codec.encode(&result).map_err(Failure::Result)
}

/// The caller still has the bytes: it needs no argument back.
fn without_arg<A>(refused: SubmitError<A>) -> SubmitError<()> {
    match refused {
        SubmitError::Full(_) => SubmitError::Full(()),
        SubmitError::Closed(_) => SubmitError::Closed(()),
    }
}
