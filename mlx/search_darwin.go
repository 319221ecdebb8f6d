package mlx

// LibraryFile is the name of libmlxrank.
const LibraryFile = "libmlxrank.dylib"
