// Package syscalls describes the system calls of Linux: their names and numbers
// in each ABI, what their parameters are, and how a call is written in strace's
// form.
//
// The tables (calls.txt, flags.txt) are data, so that a new call is a line. What
// the parameters point to is read by whoever sees the call, see package
// event's Call.Data; nothing here looks at a guest.
package syscalls
