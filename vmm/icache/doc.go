// Package icache makes the CPUs of the host, and so the vCPUs on them, fetch
// instructions that have been written to a guest's memory.
package icache
