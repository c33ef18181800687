// Command env runs a program in a changed environment, or prints the
// environment.
//
//	env [-i] [NAME=VALUE...] [COMMAND [ARG...]]
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

func main() {
	args := os.Args[1:]
	for len(args) > 0 && (args[0] == "-i" || args[0] == "-") {
		os.Clearenv()
		args = args[1:]
	}
	for len(args) > 0 {
		k, v, ok := strings.Cut(args[0], "=")
		if !ok {
			break
		}
		os.Setenv(k, v)
		args = args[1:]
	}
	if len(args) == 0 {
		for _, e := range os.Environ() {
			fmt.Println(e)
		}
		return
	}
	path, err := exec.LookPath(args[0])
	if err == nil {
		err = syscall.Exec(path, args, os.Environ())
	}
	fmt.Fprintln(os.Stderr, "env:", err)
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		os.Exit(127)
	}
	os.Exit(126)
}
