package hostinfo

import "golang.org/x/sys/unix"

// landlockABI is the version of Landlock that the kernel enforces, 0 for none
// (not built in, or not among the LSMs switched on at boot).
func landlockABI() int {
	// landlock_create_ruleset(NULL, 0, LANDLOCK_CREATE_RULESET_VERSION)
	n, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(n)
}
