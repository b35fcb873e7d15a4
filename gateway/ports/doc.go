// Package ports gives numbers to the named ports of services, for callers who know
// services by a name and a number: of the DNS way's virtual addresses and of the proxy
// way. Rules of the configuration come first, since numbers of endpoints stay in their
// cluster; then what a port's name and protocol are known by.
package ports
