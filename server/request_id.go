package server

import (
	"net/http"
	"strings"

	"github.com/google/uuid"
)

// headerRequestID is the header with the name of a request, which the answer repeats.
const headerRequestID = "X-Request-Id"

const maxRequestID = 128 // bytes

// requestID returns the id that the client or its proxy gives a request. It makes one if
// there is none, or one that could break a line of a log.
func requestID(h http.Header) string {
	if id := h.Get(headerRequestID); isRequestID(id) {
		return id
	}
	return uuid.NewString()
}

// isRequestID reports whether an id consists of letters, digits and signs that need no
// escape in logs, shells and URLs.
func isRequestID(id string) bool {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:=@+/"
	return id != "" && len(id) <= maxRequestID && strings.Trim(id, allowed) == ""
}
