// Package introspect reads what a running Linux guest knows about itself from
// outside: which task runs, what its file descriptors refer to, which file a
// path names.
//
// Nothing is installed in the guest, no profile is made beforehand. The
// kernel's image says everything: symbols come from its own kallsyms tables,
// the layout of its structures from its BTF, and where it was placed by KASLR
// from a register that holds the address of a known function.
//
// [Attach] gives a [Live], of which a whole guest is asked while it runs: its
// processes, modules, sockets, mounts and tables, its memory, a core file.
//
// Everything read from guest memory is taken as written by an attacker: each
// walk has a bound, each length is checked against a limit of ours, and what
// cannot be followed ends in an error, never in a guess.
package introspect
