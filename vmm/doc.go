// Package vmm is a virtual machine on KVM: memory, vCPUs, buses, the devices
// wired to them, the life of the whole.
//
// A [Config] is plain data. [New] builds a [Machine] from it, [Machine.Start]
// sets its vCPUs running, [Machine.Wait] says how it ended and [Machine.Close]
// gives back what it held. Many machines live in one process. A guest can end
// its own machine and nothing else: every error while one runs becomes its
// [Exit], with a report of the registers and the instruction at fault.
//
// # Threads
//
// A vCPU is one goroutine locked for life to its thread. Whoever wants
// something of a vCPU (pause, registers, a patch with all of them stopped)
// sends it a function, which it runs between two exits. Devices run on
// goroutines of their own, see package warder/devices/virtio/mmio.
//
// # States
//
//	New ──Start──▶ running ──Pause──▶ paused
//	                  │   ◀──Resume──  │
//	                  ▼                ▼
//	               ended (Wait returns; memory can still be read)
//	                  │
//	                Close
//
// # Inspection
//
// Whoever watches guests does so through the hooks here, and vmm knows nothing
// of it: [Machine.SetTrap] for the hooks patched into a guest kernel,
// [Machine.Observe] for exits, [Machine.Watch] for writes to ranges of guest
// memory, [Machine.WithVCPUsStopped] and [VCPU.AddressSpace] to look at vCPUs,
// [Machine.Pause] for memory that does not change.
package vmm
