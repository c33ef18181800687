// Package oracle finds the programs of others that tests hold warder's output
// against.
//
// An oracle that is missing skips its test on a developer's machine. With CI=true
// in the environment nothing skips: what is missing is a failure.
package oracle

import (
	"os"
	"os/exec"
	"testing"
)

// Command returns the path of a program, which the Debian package pkg has.
func Command(t testing.TB, name, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Missing(t, name+": apt install "+pkg)
	}
	return path
}

// File returns path if there is such a file; whence tells how to get it.
func File(t testing.TB, path, whence string) string {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		Missing(t, path+": "+whence)
	}
	return path
}

// Missing ends a test that lacks what, which also says how to get it.
func Missing(t testing.TB, what string) {
	t.Helper()
	end := t.Skipf
	if os.Getenv("CI") == "true" {
		end = t.Fatalf
	}
	end("this test needs %s", what)
}
