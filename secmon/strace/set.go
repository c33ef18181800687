package strace

import (
	"fmt"
	"slices"
	"strings"

	"warder/secmon/syscalls"
)

// A Set is names of system calls.
type Set map[string]bool

// Names lists the calls, sorted.
func (s Set) Names() []string {
	var names []string
	for n := range s {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// ParseSet reads what strace takes as -e, for the calls of an architecture by
// GOARCH's name: "trace=openat,execve" or without "trace=", "all", "none", a class
// as in "%file", and with "!" before it all but those. A name with "?" before
// it need not exist. Several are one after the other: the last counts, as
// with strace. With none, it is all.
func ParseSet(arch string, exprs []string) (Set, error) {
	all := callsOf(arch)
	set := all
	for _, e := range exprs {
		var err error
		if set, err = parseOne(all, e); err != nil {
			return nil, fmt.Errorf("-e %s: %w", e, err)
		}
	}
	return set, nil
}

// callsOf is every call of the ABIs that an architecture's kernel has.
func callsOf(arch string) Set {
	abis := []syscalls.ABI{syscalls.AMD64, syscalls.I386}
	if arch == "arm64" {
		abis = []syscalls.ABI{syscalls.ARM64, syscalls.ARM}
	}
	all := Set{}
	for _, a := range abis {
		for _, n := range syscalls.Names(a) {
			all[n] = true
		}
	}
	return all
}

func parseOne(all Set, e string) (Set, error) {
	if qualifier, rest, ok := strings.Cut(e, "="); ok {
		if qualifier != "trace" && qualifier != "t" {
			return nil, fmt.Errorf("only trace= is known, not %s=", qualifier)
		}
		e = rest
	}
	e, inverted := strings.CutPrefix(e, "!")
	set := Set{}
	for word := range strings.SplitSeq(e, ",") {
		word, optional := strings.CutPrefix(word, "?")
		switch word {
		case "all":
			for n := range all {
				set[n] = true
			}
			continue
		case "none":
			continue
		}
		if class, ok := strings.CutPrefix(word, "%"); ok {
			in, err := classOf(class)
			if err != nil {
				return nil, err
			}
			for n := range all {
				if in(n) {
					set[n] = true
				}
			}
			continue
		}
		switch {
		case all[word]:
			set[word] = true
		case syscalls.Known(word) || optional:
			// Another architecture's.
		default:
			return nil, fmt.Errorf("there is no system call %q", word)
		}
	}
	if !inverted {
		return set, nil
	}
	rest := Set{}
	for n := range all {
		if !set[n] {
			rest[n] = true
		}
	}
	return rest, nil
}

// Classes that a call's name decides (strace(1), "trace=").
var classes = map[string]string{
	"process": "fork vfork clone clone3 execve execveat exit exit_group wait4 waitid waitpid kill tkill tgkill pidfd_send_signal rt_sigqueueinfo rt_tgsigqueueinfo",
	"network": "socket socketpair bind listen accept accept4 connect getsockname getpeername send sendto recv recvfrom sendmsg recvmsg sendmmsg recvmmsg setsockopt getsockopt shutdown socketcall",
	"signal": "kill tkill tgkill pidfd_send_signal pause sigaction signal sigaltstack sigpending sigprocmask sigreturn sigsuspend rt_sigaction rt_sigpending rt_sigprocmask " +
		"rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo signalfd signalfd4",
	"ipc":    "ipc msgctl msgget msgrcv msgsnd semctl semget semop semtimedop shmat shmctl shmdt shmget",
	"memory": "brk mmap mmap2 munmap mremap mprotect pkey_mprotect madvise process_madvise mlock mlock2 mlockall munlock munlockall msync mincore remap_file_pages mbind migrate_pages move_pages set_mempolicy get_mempolicy set_mempolicy_home_node shmat shmdt map_shadow_stack mseal io_setup io_destroy",
	"creds":  "capget capset getuid geteuid getgid getegid getresuid getresgid getgroups setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid setgroups",
	"clock":  "clock_adjtime clock_getres clock_gettime clock_settime gettimeofday settimeofday adjtimex time stime",
	"pure":   "getuid geteuid getgid getegid getpid getppid gettid getpgrp",
}

// classOf says which calls are in a class. Those of files and descriptors are in
// by their parameters.
func classOf(class string) (func(name string) bool, error) {
	if names, ok := classes[class]; ok {
		list := strings.Fields(names)
		return func(n string) bool { return slices.Contains(list, n) }, nil
	}
	switch class {
	case "file":
		return takes(syscalls.Path), nil
	case "desc":
		return takes(syscalls.FD, syscalls.DirFD), nil
	}
	known := []string{"%file", "%desc"}
	for c := range classes {
		known = append(known, "%"+c)
	}
	slices.Sort(known)
	return nil, fmt.Errorf("there is no class %%%s, but %s", class, strings.Join(known, ", "))
}

// takes says whether a call has a parameter of one of the kinds.
func takes(kinds ...syscalls.Kind) func(name string) bool {
	return func(name string) bool {
		for _, a := range []syscalls.ABI{syscalls.AMD64, syscalls.I386, syscalls.ARM64, syscalls.ARM} {
			if c := syscalls.Lookup(a, name); c != nil && slices.ContainsFunc(kinds, func(k syscalls.Kind) bool { return c.Find(k) >= 0 }) {
				return true
			}
		}
		return false
	}
}
