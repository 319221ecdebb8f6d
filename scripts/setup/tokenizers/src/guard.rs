// What the module's source uses of the crate tokenizers. Two things that the
// source does not expect become errors here: a panic of the crate, and results
// that the source would turn into C memory it cannot free again. An exhausted
// stack and exhausted memory still end the process.
pub mod tokenizer {
    use std::fmt::Display;
    use std::panic::{catch_unwind, AssertUnwindSafe};
    use std::path::Path;

    pub use huggingface::tokenizer::{Encoding, TruncationDirection, TruncationParams};

    type Result<T> = std::result::Result<T, String>;

    #[derive(Clone)]
    pub struct Tokenizer(huggingface::Tokenizer);

    impl Tokenizer {
        pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
            guard(|| huggingface::Tokenizer::from_bytes(bytes)).map(Self)
        }

        pub fn from_file(path: &Path) -> Result<Self> {
            guard(|| huggingface::Tokenizer::from_file(path)).map(Self)
        }

        pub fn with_truncation(&mut self, params: Option<TruncationParams>) -> Result<&mut Self> {
            guard(|| self.0.with_truncation(params).map(|_| ()))?;
            Ok(self)
        }

        pub fn set_encode_special_tokens(&mut self, value: bool) {
            self.0.set_encode_special_tokens(value);
        }

        pub fn get_vocab_size(&self, with_added_tokens: bool) -> usize {
            self.0.get_vocab_size(with_added_tokens)
        }

        pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Encoding> {
            let encoding = guard(|| self.0.encode(text, add_special_tokens))?;
            check(&encoding)?;
            Ok(encoding)
        }

        pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String> {
            guard(|| self.0.decode(ids, skip_special_tokens))
        }
    }

    // The source frees all arrays with the length of the ids, and makes C
    // strings of the tokens.
    fn check(encoding: &Encoding) -> Result<()> {
        let n = encoding.get_ids().len();
        let lengths = [
            encoding.get_type_ids().len(),
            encoding.get_tokens().len(),
            encoding.get_special_tokens_mask().len(),
            encoding.get_attention_mask().len(),
            encoding.get_offsets().len(),
        ];
        if lengths.iter().any(|&length| length != n) {
            return Err(format!("the encoding has {n} ids, but {lengths:?} of the rest"));
        }
        if encoding.get_tokens().iter().any(|token| token.contains('\0')) {
            return Err("a token contains NUL".into());
        }
        Ok(())
    }

    // Errors become C strings, which end at NUL.
    fn guard<T, E: Display>(work: impl FnOnce() -> std::result::Result<T, E>) -> Result<T> {
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(error.to_string().replace('\0', "\u{FFFD}")),
            Err(panic) => {
                let text = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
                    (Some(text), _) => text,
                    (_, Some(text)) => text.as_str(),
                    _ => "of an unknown kind",
                };
                Err(format!("panic: {text}").replace('\0', "\u{FFFD}"))
            }
        }
    }
}
