package rerank

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/input"
)

// maxQuery bounds a query from standard input, in bytes.
const maxQuery = 1 << 20

// readQuery returns the one line of standard input, without its end.
func readQuery(ctx context.Context, stdin io.Reader) (_ string, err error) {
	in, err := input.Open(ctx, "-", stdin)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	data, err := io.ReadAll(io.LimitReader(in, maxQuery+1))
	if err != nil {
		return "", fmt.Errorf("read the query from standard input: %w", err)
	}
	query := strings.TrimSuffix(strings.TrimSuffix(string(bytes.TrimPrefix(data, []byte("\uFEFF"))), "\n"), "\r")
	switch lines := 1 + strings.Count(query, "\n"); {
	case len(data) > maxQuery:
		return "", fmt.Errorf("--query -: standard input has more than %d bytes; a query is one line", maxQuery)
	case !utf8.ValidString(query):
		return "", errors.New("--query -: standard input is not UTF-8 text")
	case strings.TrimSpace(query) == "":
		return "", errors.New("--query -: standard input holds no query")
	case lines > 1:
		return "", fmt.Errorf("--query -: standard input has %d lines; a query is one line. For many queries see mlxrank score --help; "+
			`a query of several lines is given as --query "$(cat FILE)"`, lines)
	}
	return query, nil
}

// refuseFileNames returns an error if all document arguments name files, as in
// `rerank --query Q notes/*`: the user most likely means their contents, and the
// names would be ranked.
func refuseFileNames(args []string) error {
	files := 0
	for _, arg := range args {
		info, err := os.Stat(arg)
		if err != nil {
			return nil //nolint:nilerr // a text
		}
		if !info.IsDir() {
			files++
		}
	}
	if files == 0 { // a passage may read "bin"
		return nil
	}
	named := args[0]
	if len(args) > 1 {
		named += " ..."
	}
	return command.Usagef("the documents are names of files (%s): to rank the lines of a file use --documents FILE; "+
		"to rank the names themselves, write them to standard input and use --documents -", named)
}
