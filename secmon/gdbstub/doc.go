// Package gdbstub lets GDB debug a target over its remote serial protocol.
//
// The protocol is that of the GDB manual, appendix E, in all-stop mode: while
// the debugger is attached, either all threads stand still or it waits for one
// of them to stop. A [Target] is what is debugged; the package knows no
// machine. What a debugger sends is checked and bounded: it is a person's tool,
// but what can connect to a port need not be one.
package gdbstub
