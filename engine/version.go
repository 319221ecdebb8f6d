package engine

// Version is the release that this source is, or will be.
const Version = "0.1.0"
