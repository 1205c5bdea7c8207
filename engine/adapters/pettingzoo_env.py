"""A game of az as a PettingZoo environment: `env("connect4")`, by the AEC interface. Extra `adapters`.

An observation is {"observation": float32 [C, H, W] in [-1, 1], "action_mask": int8 [num_actions]}: what az's networks
see, and which actions are legal (none for the agent who is not to move). The reward comes with the end of the game: 1
to who wins, -1 to who loses, 0 where it is drawn. The same agent may move twice running, as in a multiple jump.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from az.engine.errors import WrongRequest
from az.engine.game import ONGOING, load_game

# So, since az is checked by types without these packages too.
AECEnv: Any = import_module("pettingzoo").AECEnv
wrappers: Any = import_module("pettingzoo.utils").wrappers
spaces: Any = import_module("gymnasium").spaces

Observation = dict[str, NDArray[Any]]
RENDER_MODES = ("ansi", "human")


def env(game: str, render_mode: str | None = None) -> Any:
    """The AECEnv of az's game of that name, guarded as PettingZoo's own are: an illegal action ends the game with
    -1 to who took it. Raises WrongRequest for a game or a render mode that there is not."""
    made: Any = wrappers.TerminateIllegalWrapper(GameEnv(game, render_mode), illegal_reward=-1)
    return wrappers.OrderEnforcingWrapper(wrappers.AssertOutOfBoundsWrapper(made))


class GameEnv(AECEnv):
    """The environment without guards.

    render_mode: "ansi" (render answers with the board as text), "human" (it prints it) or None.
    """

    def __init__(self, game: str, render_mode: str | None = None) -> None:
        AECEnv.__init__(self)
        if render_mode is not None and render_mode not in RENDER_MODES:
            raise WrongRequest(f"there is no render mode '{render_mode}': write {' or '.join(RENDER_MODES)}.")
        self.game = load_game(game)
        self.metadata: dict[str, Any] = {
            "name": f"az_{game}_v{self.game.version}",
            "render_modes": list(RENDER_MODES),
            "is_parallelizable": False,
        }
        self.render_mode = render_mode
        self.possible_agents = ["player_0", "player_1"]
        seen = spaces.Dict(
            {
                "observation": spaces.Box(-1.0, 1.0, self.game.planes_shape, np.float32),
                "action_mask": spaces.Box(0, 1, (self.game.num_actions,), np.int8),
            }
        )
        self.observation_spaces = dict.fromkeys(self.possible_agents, seen)
        self.action_spaces = {agent: spaces.Discrete(self.game.num_actions) for agent in self.possible_agents}
        self.agents = []
        self.state_words = self.game.new_state()

    def observation_space(self, agent: str) -> Any:
        """The same object at every call."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> Any:
        """The same object at every call."""
        return self.action_spaces[agent]

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        """The start position, or that of options["position"], a text as az writes it. No game of az has chance: the
        seed changes nothing. Raises WrongRequest for a position that cannot be read or whose game is over."""
        del seed
        position = (options or {}).get("position")
        state = self.game.new_state() if position is None else self.game.parse_position(str(position))
        if self.game.outcome(state) != ONGOING:
            raise WrongRequest("the game is over in that position: nothing can be played from it.")
        self.state_words = state
        self.agents = self.possible_agents[:]
        self.rewards = dict.fromkeys(self.agents, 0.0)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos = {agent: dict[str, Any]() for agent in self.agents}
        self.agent_selection = self.agents[int(state[0])]

    def observe(self, agent: str) -> Observation:
        """The position as this agent sees it; for the one who is not to move as if they were, and without actions."""
        player = self.possible_agents.index(agent)
        state = self.state_words.copy()
        to_move = int(state[0]) == player
        state[0] = player
        mask = self.game.mask(self.state_words) if to_move else np.zeros(self.game.num_actions, np.bool_)
        return {"observation": self.game.planes(state), "action_mask": mask.astype(np.int8)}

    def step(self, action: int | None) -> None:
        """Play an action of the agent to move; None for one whose game has ended. Raises WrongRequest."""
        if self.terminations[self.agent_selection] or self.truncations[self.agent_selection]:
            self._was_dead_step(action)  # which demands None
            return
        if action is None or not 0 <= action < self.game.num_actions or not self.game.mask(self.state_words)[action]:
            raise WrongRequest(f"action {action} is not legal here; the action mask says which are.")
        agent = self.agent_selection
        self.game.apply(self.state_words, int(action))
        mover, outcome = int(self.state_words[0]), int(self.game.outcome(self.state_words))
        self._cumulative_rewards[agent] = 0.0
        self._clear_rewards()
        if outcome != ONGOING:
            for player, each in enumerate(self.possible_agents):
                self.rewards[each] = float(outcome if player == mover else -outcome)
            self.terminations = dict.fromkeys(self.agents, True)
        self.agent_selection = self.possible_agents[mover]
        self._accumulate_rewards()
        if self.render_mode == "human":
            self.render()

    def render(self) -> str | None:
        """The board as text (ansi), or printed (human); None without a render mode."""
        text = self.game.render(self.state_words)
        if self.render_mode == "human":
            print(text)
        return text if self.render_mode == "ansi" else None

    def close(self) -> None:
        """Nothing is held."""
