package main

import (
	"warder/supervisor/declaration"
	"warder/supervisor/verify"
)

// accessConfig is who else may ask for services.
type accessConfig struct {
	// Socket is the path of a socket that all users may connect to.
	Socket string `yaml:"socket"`
	// Policies is a file that says who of them may do what.
	Policies string `yaml:"policies"`
}

// check makes paths absolute and says what is wrong.
func (a *accessConfig) check(base string) (err error) {
	if (a.Socket == "") != (a.Policies == "") {
		return &declaration.Problem{Path: "access", Text: "give both, a socket and the policies of who may ask there"}
	}
	if a.Socket == "" {
		return nil
	}
	if a.Socket, err = absolute(base, a.Socket); err != nil {
		return err
	}
	a.Policies, err = absolute(base, a.Policies)
	return err
}

// share opens the socket for other users, if there is to be one.
func (h *host) share(a accessConfig) error {
	if a.Socket == "" {
		return nil
	}
	policy, err := verify.ReadPolicy(a.Policies)
	if err != nil {
		return err
	}
	return h.socket.server.Share(a.Socket, policy)
}
