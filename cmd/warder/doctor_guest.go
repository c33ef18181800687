package main

import (
	"warder/boot/kernelpkg"
	"warder/guestinit/initramfs"
	"warder/vmm/hostinfo"
)

// addGuest adds to the report what a guest is made of: a kernel of this host's
// architecture, the base image with PID 1.
func addGuest(r *hostinfo.Report) {
	kernel := hostinfo.Item{Group: "guest", Name: "kernel", Required: true, Use: "what every VM boots unless it is given another"}
	if p, err := kernelpkg.Default(r.Arch); err != nil {
		kernel.Value, kernel.Todo = err.Error(), "warder kernel pull"
	} else {
		kernel.Present, kernel.Value = true, p.Release
	}
	image := hostinfo.Item{Group: "guest", Name: "base image", Required: true, Use: "PID 1 with a small user land"}
	if _, err := initramfs.Base(); err != nil {
		image.Value, image.Todo = err.Error(), "use a warder that make build has built"
	} else {
		image.Present = true
	}
	for _, i := range []hostinfo.Item{kernel, image} {
		r.Items = append(r.Items, i)
		r.Ready = r.Ready && i.Present
	}
}
