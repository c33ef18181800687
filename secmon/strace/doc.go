// Package strace writes the system calls of a guest as strace does, and reads
// the names that strace has for sets of calls.
//
// What is traced is seen from outside, so that nothing in the guest notices; the
// form is strace's, so that people and scripts that read it can read this.
package strace
