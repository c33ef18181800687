// Package trap reports the system calls of a running guest before they take
// effect, and refuses those that it is told to.
//
// Nothing is installed in the guest. The handlers of the wanted calls begin
// with a NOP that the kernel keeps there for its own tracers. That NOP is
// replaced by an instruction that leaves the guest: on amd64 a write to a port
// that nobody has, on arm64 a breakpoint with a number of ours. At the exit the
// arguments, the acting process and its files are read from the guest's memory
// by package introspect. Calls that nobody asked for cost nothing.
package trap
