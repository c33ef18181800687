package testkernel

import (
	"os"
	"path/filepath"
	"testing"
)

// RawFile is the path of a file with the kernel that [Raw] makes of code.
func RawFile(t testing.TB, code []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kernel")
	if err := os.WriteFile(path, Raw(code), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
