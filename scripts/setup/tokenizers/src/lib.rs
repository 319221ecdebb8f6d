// The C interface of github.com/daulet/tokenizers, compiled from the source
// that the Go module of that name carries. Its own Cargo.toml names a git
// dependency; this crate takes every dependency from the crate registry, by
// Cargo.lock. MLXRANK_TOKENIZERS_MODULE is the folder of the Go module.
//
// A panic that leaves a function of C ends the process. The module's source
// finds the crate tokenizers under its usual name in guard.rs, which makes
// panics errors; the crate itself is called huggingface here.
#[path = "guard.rs"]
mod tokenizers;

include!(concat!(env!("MLXRANK_TOKENIZERS_MODULE"), "/src/lib.rs"));
