package mlx

const libraryFile = "libmlxrank.dylib"
