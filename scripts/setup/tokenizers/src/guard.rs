// What the module's source uses of the crate tokenizers. Two things that the
// source does not expect become errors here: a panic of the crate, and results
// that the source would turn into C memory it cannot free again. An exhausted
// stack and exhausted memory still end the process.
//
// A text is a C string, so it cannot have NUL. If the file of a tokenizer begins
// with a line break, its texts may have U+10FFFF and 0 for NUL, and then have
// U+10FFFF and 1 for U+10FFFF itself. So have the tokens of its encodings.
pub mod tokenizer {
    use std::borrow::Cow;
    use std::fmt::Display;
    use std::panic::{catch_unwind, AssertUnwindSafe};
    use std::path::Path;

    use huggingface::tokenizer::Token;
    pub use huggingface::tokenizer::{Encoding, TruncationDirection, TruncationParams};

    type Result<T> = std::result::Result<T, String>;

    const ESCAPE: char = '\u{10FFFF}';

    #[derive(Clone)]
    pub struct Tokenizer(huggingface::Tokenizer, bool);

    impl Tokenizer {
        pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
            let escapes = bytes.first() == Some(&b'\n');
            guard(|| huggingface::Tokenizer::from_bytes(bytes)).map(|t| Self(t, escapes))
        }

        pub fn from_file(path: &Path) -> Result<Self> {
            guard(|| huggingface::Tokenizer::from_file(path)).map(|t| Self(t, false))
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
            let text = if self.1 { unescape(text) } else { Cow::Borrowed(text) };
            let mut encoding = guard(|| self.0.encode(text.as_ref(), add_special_tokens))?;
            if self.1 && encoding.get_tokens().iter().any(|token| token.contains(['\0', ESCAPE])) {
                encoding = escape(encoding);
            }
            check(&encoding)?;
            Ok(encoding)
        }

        pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String> {
            guard(|| self.0.decode(ids, skip_special_tokens))
        }
    }

    fn unescape(text: &str) -> Cow<'_, str> {
        if !text.contains(ESCAPE) {
            return Cow::Borrowed(text);
        }
        let mut out = String::with_capacity(text.len());
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match c {
                ESCAPE => out.push(if chars.next() == Some('0') { '\0' } else { ESCAPE }),
                _ => out.push(c),
            }
        }
        Cow::Owned(out)
    }

    fn escape(encoding: Encoding) -> Encoding {
        let tokens = encoding.get_ids().iter().zip(encoding.get_tokens()).zip(encoding.get_offsets());
        let tokens = tokens.map(|((id, token), offsets)| {
            let token = token.replace(ESCAPE, "\u{10FFFF}1").replace('\0', "\u{10FFFF}0");
            Token::new(*id, token, *offsets)
        });
        Encoding::from_tokens(tokens.collect(), 0)
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
