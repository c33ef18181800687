package main

import (
	"warder/guestinit/proto"
	"warder/supervisor/api"
	"warder/supervisor/declaration"
)

// accessConfig is who else may ask for services.
type accessConfig struct {
	// Socket is the path of a socket that all users may connect to.
	Socket string `yaml:"socket"`
	// TLS is a port of the network's.
	TLS *tlsConfig `yaml:"tls"`
	// VMs lets the VMs of services ask for more than themselves.
	VMs bool `yaml:"vms"`
	// Policies is a file that says who of them may do what.
	Policies string `yaml:"policies"`
}

// tlsConfig is api.TLS.
type tlsConfig struct {
	Listen   string `yaml:"listen"`
	Cert     string `yaml:"cert"`
	Key      string `yaml:"key"`
	ClientCA string `yaml:"client_ca"`
}

// check makes paths absolute and says what is wrong.
func (a *accessConfig) check(base string) error {
	paths := []*string{&a.Socket, &a.Policies}
	if t := a.TLS; t != nil {
		if t.Listen == "" || t.Cert == "" || t.Key == "" || t.ClientCA == "" {
			return &declaration.Problem{Path: "access.tls", Text: "give listen, as in 0.0.0.0:8443, cert and key, the host's own, and client_ca, who vouches for clients"}
		}
		paths = append(paths, &t.Cert, &t.Key, &t.ClientCA)
	}
	if (a.Socket == "" && a.TLS == nil && !a.VMs) != (a.Policies == "") {
		return &declaration.Problem{Path: "access", Text: "give both, one of socket, tls and vms, and the policies of who may ask for what"}
	}
	for _, p := range paths {
		if *p == "" {
			continue
		}
		var err error
		if *p, err = absolute(base, *p); err != nil {
			return err
		}
	}
	return nil
}

// files are those that are read.
func (a *accessConfig) files() []string {
	files := []string{a.Policies}
	if t := a.TLS; t != nil {
		files = append(files, t.Cert, t.Key, t.ClientCA)
	}
	return files
}

// listenTo answers what the VM of a service asks for.
func (h *host) listenTo(d declaration.Service, vm serviceVM) error {
	if h.socket.server == nil {
		return nil
	}
	l, err := vm.Machine().Vsock().Listen(proto.ServicesPort)
	if err != nil {
		return err
	}
	h.socket.server.ServeVM(l, d, vm)
	return nil
}

// share opens the ways for others, if there are to be any.
func (h *host) share(a accessConfig) error {
	if a.Policies == "" {
		return nil
	}
	if a.Socket != "" {
		if err := h.socket.server.Share(a.Socket); err != nil {
			return err
		}
	}
	if t := a.TLS; t != nil {
		at, err := h.socket.server.ShareTLS(api.TLS(*t))
		if err != nil {
			return err
		}
		h.log.Info("clients of the network may ask for services", "address", at.String())
	}
	return nil
}
