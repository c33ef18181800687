// Package guestinit is what the host hands to a guest's PID 1 before the two
// can talk: a small archive laid over the base initramfs.
//
// The guest's own parts are beside it: init is the program, process runs its
// commands, system does its system calls, agent answers the host. The wire is
// proto, the host's end control, the base image initramfs.
package guestinit

// ConfigPath is where PID 1 finds its Config, as JSON.
const ConfigPath = "/etc/warder/config.json"

// ModuleDir is where a guest's kernel modules are.
const ModuleDir = "/lib/modules"

// Config is what PID 1 must know to reach the host. All else comes over the
// control connection, so that one archive serves every VM of one kernel.
type Config struct {
	// Modules are the absolute paths of kernel modules, dependencies first.
	Modules []string `json:"modules,omitempty"`
}
