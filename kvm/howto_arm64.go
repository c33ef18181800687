package kvm

// HowTo is what a person does on this architecture to get a KVM device.
const HowTo = "boot a kernel with CONFIG_KVM at EL2: the boot loader must not drop to EL1" +
	" (or nested virtualisation, where this machine is a VM itself)"
