package event

// The parts of the schema that network and log events use.
type (
	ecsEnd struct {
		Address string `json:"address,omitempty"` // of vsock: the CID
		IP      string `json:"ip,omitempty"`
		Port    uint32 `json:"port,omitempty"`
		Domain  string `json:"domain,omitempty"`
		Bytes   uint64 `json:"bytes,omitempty"`
		Packets uint64 `json:"packets,omitempty"`
		VM      string `json:"vm,omitempty"` // ours
	}
	ecsNet struct {
		Transport string   `json:"transport,omitempty"`
		Protocol  string   `json:"protocol,omitempty"`
		Community string   `json:"community_id,omitempty"`
		VLAN      *ecsVLAN `json:"vlan,omitempty"`
	}
	ecsVLAN struct {
		ID string `json:"id"`
	}
	ecsDNS struct {
		Question ecsQuestion `json:"question"`
		Code     string      `json:"response_code,omitempty"`
		Answers  []ecsAnswer `json:"answers,omitempty"`
	}
	ecsQuestion struct {
		Name string `json:"name"`
		Type string `json:"type,omitempty"`
	}
	ecsAnswer struct {
		Data string `json:"data"`
	}
	ecsHTTP struct {
		Request  ecsRequest  `json:"request"`
		Response ecsResponse `json:"response"`
	}
	ecsRequest struct {
		Method string `json:"method,omitempty"`
	}
	ecsResponse struct {
		Status uint16 `json:"status_code,omitempty"`
	}
	ecsURL struct {
		Domain string `json:"domain,omitempty"`
		Path   string `json:"path,omitempty"`
		Query  string `json:"query,omitempty"`
	}
	ecsAgent struct {
		Original string `json:"original,omitempty"`
	}
	ecsTLS struct {
		Client ecsHello `json:"client"`
	}
	ecsHello struct {
		ServerName string   `json:"server_name,omitempty"`
		ALPN       []string `json:"supported_protocols,omitempty"` // ours
		JA4        string   `json:"ja4,omitempty"`
	}
	ecsLog struct {
		Syslog   ecsSyslog `json:"syslog"`
		Original string    `json:"original"` // ours: the schema has it under event
	}
	ecsSyslog struct {
		Program  string      `json:"appname,omitempty"`
		Facility ecsFacility `json:"facility"`
		Severity ecsSeverity `json:"severity"`
	}
	ecsFacility struct {
		Name string `json:"name,omitempty"`
	}
	ecsSeverity struct {
		Code uint8 `json:"code"`
	}
)
