// Package gdbvm makes a virtual machine a target of GDB: its vCPUs are threads, and
// its kernel's symbols a file that GDB reads by itself.
package gdbvm
