// Package switches holds what an operator sets by hand at one gateway, over
// everything that the federation says: freeze, pin and failover off. It needs no
// other process, not even the gateway: the switches are a file in the gateway's data
// directory, which the command writes and the gateway follows; they survive restarts.
//
// Who may write the data directory may set them. Each says who set it, when and why.
package switches
