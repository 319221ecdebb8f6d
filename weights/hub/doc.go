// Package hub finds models of the Hugging Face hub in the cache that Python's
// huggingface_hub shares, and downloads what is missing of them.
//
// Of a repository org/name the cache holds
//
//	models--org--name/refs/REVISION            the commit that a branch or tag was at
//	models--org--name/snapshots/COMMIT/FILE    a link to ../../blobs/ETAG
//	models--org--name/blobs/ETAG               a file's bytes, named by their hash
//	.locks/models--org--name/ETAG.lock         held while a blob is made
//
// Without symbolic links a snapshot holds the files themselves, and
//
//	models--org--name/trees/COMMIT.json        the commit's files with their hashes
//
// An ETag is the SHA-256 of a large file and the git blob id of a small one, so
// that every blob can be checked against its name; mirrors have other ETags. A
// blob appears when it is complete and checked, a snapshot's files when all
// blobs are there, and a ref after them: whatever interrupts a download, what
// the cache shows is whole.
package hub
