// Package server answers rerank requests over HTTP in the formats of
// text-embeddings-inference, Jina and Cohere.
//
// A call goes through the guard (Host, Origin, key, content type), is read
// within the limits, is validated by the types that the OpenAPI document is
// made of, and is scored by the engine. Whatever refuses it on that way answers
// in the error shape of the call's own API, and nothing of it is executed.
// Texts are never logged.
//
// A program of one's own mounts [Server.Handler], or calls [Server.Serve]. The Go
// API may change with a minor version, which CHANGELOG.md says. The HTTP API is
// what docs/user/server.md and the OpenAPI document at /openapi.json describe; it
// breaks with a major version alone, before v1.0.0 with a minor one.
package server
