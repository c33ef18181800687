package initrd

import "strings"

// Tracers are the programs that trace another one's system calls in a guest.
var Tracers = map[string]string{"strace": "/usr/bin/strace", "perf": "/usr/bin/perf"}

const allCalls = "all"

// Traced is the argument of the guest's program that has one of them trace calls: their
// names with commas between, or all.
func Traced(tracer, calls string) string { return tracer + "=" + calls }

// TraceCommand is what such an argument asks for, without the program to trace.
func TraceCommand(argument string) (command []string, ok bool) {
	tracer, calls, _ := strings.Cut(argument, "=")
	path, ok := Tracers[tracer]
	if !ok {
		return nil, false
	}
	if tracer == "strace" {
		return []string{path, "-f", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=" + calls}, true
	}
	command = []string{path, "trace", "-o", "/dev/null"}
	if calls != allCalls {
		command = append(command, "-e", calls)
	}
	return command, true
}
