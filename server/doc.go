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
// API follows the rules of package engine's. That of HTTP is described by
// docs/server.md and the OpenAPI document at /openapi.json: requests that are
// answered today are answered by later versions, with the same fields and
// perhaps more.
package server
