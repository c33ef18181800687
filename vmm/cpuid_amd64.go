package vmm

import (
	"math/bits"
	"slices"

	"warder/kvm"
)

// CPUID leaves and bits that a machine sets itself (Intel SDM vol. 2, CPUID;
// AMD APM vol. 3, appendix E).
const (
	leafFeatures    = 0x1
	leafCaches      = 0x4
	leafTopology    = 0xb
	leafTopologyV2  = 0x1f
	leafAMDFeatures = 0x8000_0001
	leafAMDSizes    = 0x8000_0008
	leafAMDSVM      = 0x8000_000a
	leafAMDCaches   = 0x8000_001d
	leafAMDTopology = 0x8000_001e

	ecxVMX         = 1 << 5
	ecxTSCDeadline = 1 << 24
	ecxHypervisor  = 1 << 31
	edxHTT         = 1 << 28
	ecxSVM         = 1 << 2

	levelSMT  = 1
	levelCore = 2
)

// guestCPUID is what vCPU id of n sees: what KVM supports, with the topology
// of this machine (one package of n cores of one thread) and without nested
// virtualisation, which a service has no use for and an attacker would.
func guestCPUID(supported []kvm.CPUIDEntry, id, n int) []kvm.CPUIDEntry {
	apic := uint32(id)
	// The number of APIC id bits that tell cores apart.
	width := uint32(bits.Len(uint(n - 1)))
	entries := slices.DeleteFunc(slices.Clone(supported), func(e kvm.CPUIDEntry) bool {
		return e.Function == leafTopology || e.Function == leafTopologyV2
	})
	for i := range entries {
		e := &entries[i]
		switch e.Function {
		case leafFeatures:
			e.EBX = e.EBX&0x0000_ffff | uint32(n)<<16 | apic<<24
			e.ECX = e.ECX&^ecxVMX | ecxTSCDeadline | ecxHypervisor
			e.EDX &^= edxHTT
			if n > 1 {
				e.EDX |= edxHTT
			}
		case leafCaches:
			// Bits 31:26 cores in the package less one, 25:14 threads that
			// share this cache less one: each core has its own.
			e.EAX = e.EAX&0x0000_3fff | uint32(min(1<<width, 64)-1)<<26
		case leafAMDCaches:
			e.EAX &= 0x0000_3fff // as above, without the cores
		case leafAMDFeatures:
			e.ECX &^= ecxSVM
		case leafAMDSizes:
			e.ECX = e.ECX&^0xf0ff | width<<12 | uint32(n-1)
		case leafAMDSVM:
			e.EAX, e.EBX, e.ECX, e.EDX = 0, 0, 0, 0
		case leafAMDTopology:
			e.EAX, e.EBX, e.ECX = apic, apic, 0
		}
	}
	return append(entries,
		topologyLevel(0, 0, 1, levelSMT, apic),
		topologyLevel(1, width, uint32(n), levelCore, apic),
		topologyLevel(2, 0, 0, 0, apic))
}

// topologyLevel is one level of leaf 0xb: how far to shift the APIC id to get
// to the next level, and how many logical processors there are below it.
func topologyLevel(index, shift, processors, level, apic uint32) kvm.CPUIDEntry {
	return kvm.CPUIDEntry{
		Function: leafTopology, Index: index, Flags: kvm.CPUIDSignificantIndex,
		EAX: shift, EBX: processors, ECX: level<<8 | index, EDX: apic,
	}
}
