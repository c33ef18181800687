// Command kill sends a signal to processes, or to process groups by negative
// ids.
//
//	kill [-s SIGNAL | -SIGNAL] [--] PID...
//	kill -l
//
// SIGNAL is a number or a name with or without SIG; TERM when there is none.
package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

func main() {
	sig, pids, err := parse(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "kill:", err)
		os.Exit(2)
	}
	status := 0
	for _, pid := range pids {
		if err := unix.Kill(pid, sig); err != nil {
			fmt.Fprintf(os.Stderr, "kill: %d: %v\n", pid, err)
			status = 1
		}
	}
	os.Exit(status)
}

func parse(args []string) (unix.Signal, []int, error) {
	sig := unix.SIGTERM
	if len(args) > 0 && args[0] == "-l" {
		for n := unix.Signal(1); n < 32; n++ {
			fmt.Println(int(n), strings.TrimPrefix(unix.SignalName(n), "SIG"))
		}
		return sig, nil, nil
	}
	var err error
	switch {
	case len(args) > 1 && args[0] == "-s":
		sig, err = parseSignal(args[1])
		args = args[2:]
	case len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' && args[0] != "--":
		sig, err = parseSignal(args[0][1:])
		args = args[1:]
	}
	if err != nil {
		return 0, nil, err
	}
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		return 0, nil, errors.New("which process?")
	}
	var pids []int
	for _, a := range args {
		pid, err := strconv.Atoi(a)
		if err != nil {
			return 0, nil, fmt.Errorf("%q is not a process id", a)
		}
		pids = append(pids, pid)
	}
	return sig, pids, nil
}

func parseSignal(s string) (unix.Signal, error) {
	if n, err := strconv.ParseUint(s, 10, 8); err == nil && n <= 64 {
		return unix.Signal(n), nil
	}
	name := strings.ToUpper(s)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if n := unix.SignalNum(name); n != 0 {
		return n, nil
	}
	return 0, fmt.Errorf("%q is not a signal", s)
}
