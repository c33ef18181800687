package hostinfo

import "warder/kvm"

// archItems is what no capability tells. Nothing on amd64.
func archItems(*kvm.VM, string) (required, optional []Item) { return nil, nil }
