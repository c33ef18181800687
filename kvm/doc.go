// Package kvm is Linux' /dev/kvm ABI, for amd64 and arm64.
//
// It is a binding and no more: every method is one ioctl (or one access to the
// page a vCPU shares with the kernel), every type is a structure of
// include/uapi/linux/kvm.h, and no policy is added. What the calls mean is
// described in the kernel's Documentation/virt/kvm/api.rst; doc comments here
// quote it and name the capability that a call needs.
//
// # Objects
//
// A [System] is /dev/kvm itself, a [VM] owns an address space, a [VCPU] is one
// virtual CPU, a [Device] is an emulated device inside the kernel, such as an
// interrupt controller. Each holds a file descriptor (close-on-exec) and must
// be closed; the kernel keeps a VM alive until its last descriptor is gone.
//
// # Errors
//
// A failed ioctl comes back as an *[os.SyscallError] that names the request,
// so that errors.Is finds the errno: errors.Is(err, unix.EEXIST).
//
// # EINTR
//
// [VCPU.Run] is the only call that returns unix.EINTR, and it returns the bare
// errno: a signal, or [VCPU.SetImmediateExit], ended it, and what to do then is
// for the owner of the vCPU to decide. All other calls change nothing when they
// are interrupted (KVM_CREATE_VM in fact is, since the Go runtime preempts with
// signals) and are repeated here.
//
// # Threads
//
// "vcpu ioctls should be issued from the same thread that was used to create
// the vcpu, except for asynchronous vcpu ioctl" (api.rst, section 1). They also
// take the vCPU's mutex, so that a call from another thread blocks for as long
// as KVM_RUN does. Only SetImmediateExit may be called from any thread.
package kvm
