package kvm

// HowTo is what a person does on this architecture to get a KVM device.
const HowTo = "turn virtualisation on in the firmware (or nested virtualisation, where this machine is a VM itself)" +
	" and load the module: modprobe kvm_amd, or kvm_intel"
