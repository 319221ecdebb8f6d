//go:build !linux

package fleet

import "errors"

// mountTmpfs has no use where there are no mount namespaces.
func mountTmpfs(string, string) error { return errors.New("mount namespaces need Linux") }
