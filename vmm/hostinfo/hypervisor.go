package hostinfo

import (
	"os"
	"strings"
)

// hypervisor is whose guest this machine is: "" without a sign of one, otherwise
// the name that its firmware gives, or "unknown".
func hypervisor() string {
	cpuinfo, _ := os.ReadFile("/proc/cpuinfo")
	var names []string
	for _, f := range []string{"sys_vendor", "product_name"} {
		if b, err := os.ReadFile("/sys/class/dmi/id/" + f); err == nil {
			names = append(names, strings.TrimSpace(string(b)))
		}
	}
	if b, err := os.ReadFile("/proc/device-tree/compatible"); err == nil { // names, each with a zero behind it
		names = append(names, strings.Join(strings.FieldsFunc(string(b), func(r rune) bool { return r == 0 }), " "))
	}
	return parseHypervisor(string(cpuinfo), strings.Join(names, " "))
}

// parseHypervisor finds the bit that CPUID keeps for hypervisors among the flags
// of x86 in /proc/cpuinfo, and well-known names in what the firmware says of the
// machine, which is all there is on arm64.
func parseHypervisor(cpuinfo, machine string) string {
	guest := false
	for line := range strings.Lines(cpuinfo) {
		name, value, _ := strings.Cut(line, ":")
		if strings.TrimSpace(name) == "flags" {
			guest = strings.Contains(" "+strings.TrimSpace(value)+" ", " hypervisor ")
			break
		}
	}
	for _, known := range []string{"QEMU", "KVM", "VMware", "VirtualBox", "Xen", "Microsoft Corporation Virtual", "Google Compute", "Amazon EC2", "Bochs", "Parallels", "dummy-virt"} {
		if strings.Contains(machine, known) {
			return machine
		}
	}
	if guest {
		return "unknown"
	}
	return ""
}
